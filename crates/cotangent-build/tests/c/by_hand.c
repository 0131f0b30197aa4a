/* Generated kernels against loops written here, from the formulas. Prints the largest difference of each and fails where one is too large.
 * It is C99 and C++ both. */
#include "kernels.h"
#include <math.h>
#include <stdio.h>

/* The largest difference so far in what is being compared, and the number of comparisons that failed. */
static double worst;
static int failures;

static void near(double got, double wanted)
{
    const double difference = fabs(got - wanted);
    /* So written that a NaN counts. */
    if (!(difference <= worst)) {
        worst = difference;
    }
}

static void done(const char *what, double tolerance)
{
    const int good = worst <= tolerance;
    printf("%-28s differs by at most %.1e: %s\n", what, worst, good ? "good" : "WRONG");
    failures += !good;
    worst = 0.0;
}

/* Numbers between -1 and 1 that are exact in both precisions. */
static double number(int i, int of)
{
    return ((i * 37 + of * 11) % 65) / 32.0 - 1.0;
}

static void fill(float *to, int n, int of)
{
    int i;
    for (i = 0; i < n; i++) {
        to[i] = (float)number(i, of);
    }
}

static void fill_double(double *to, int n, int of)
{
    int i;
    for (i = 0; i < n; i++) {
        to[i] = number(i, of);
    }
}

#define FILL(array, of) fill((float *)&(array), (int)(sizeof(array) / sizeof(float)), of)
#define FILL_DOUBLE(array, of) fill_double((double *)&(array), (int)(sizeof(array) / sizeof(double)), of)

/* z = x y, by the sizes in the header. */
static void matmul(void)
{
    enum {
        I = cotangent_matmul_dense_X_DIM_0,
        J = cotangent_matmul_dense_X_DIM_1,
        K = cotangent_matmul_dense_Y_DIM_1
    };
    static cotangent_matmul_dense_X x, x_dot, x_bar, x_start;
    static cotangent_matmul_dense_Y y, y_dot, y_bar, y_start;
    static cotangent_matmul_dense_Z z, z_dot, z_bar;
    /* Before C23 arrays that are written to need another name where they are only read; see the header. */
    const cotangent_matmul_dense_X *const in_x = (const cotangent_matmul_dense_X *)&x;
    const cotangent_matmul_dense_Y *const in_y = (const cotangent_matmul_dense_Y *)&y;
    const cotangent_matmul_dense_X *const in_x_dot = (const cotangent_matmul_dense_X *)&x_dot;
    const cotangent_matmul_dense_Y *const in_y_dot = (const cotangent_matmul_dense_Y *)&y_dot;
    const cotangent_matmul_dense_Z *const in_z_bar = (const cotangent_matmul_dense_Z *)&z_bar;
    int i, j, k;

    FILL(x, 1);
    FILL(y, 2);
    FILL(x_dot, 3);
    FILL(y_dot, 4);
    FILL(z_bar, 5);
    FILL(z, 6); /* What was there does not matter. */

    cotangent_matmul_dense_forward(in_x, in_y, &z);
    for (i = 0; i < I; i++) {
        for (k = 0; k < K; k++) {
            double sum = 0.0;
            for (j = 0; j < J; j++) {
                sum += (double)x[i][j] * y[j][k];
            }
            near(z[i][k], sum);
        }
    }
    done("matmul forward", 1e-5);

    cotangent_matmul_dense_jvp(in_x, in_y, in_x_dot, in_y_dot, &z, &z_dot);
    for (i = 0; i < I; i++) {
        for (k = 0; k < K; k++) {
            double sum = 0.0;
            for (j = 0; j < J; j++) {
                sum += (double)x_dot[i][j] * y[j][k] + (double)x[i][j] * y_dot[j][k];
            }
            near(z_dot[i][k], sum);
        }
    }
    done("matmul jvp", 1e-5);

    FILL(x_bar, 7);
    FILL(x_start, 7);
    FILL(y_bar, 8);
    FILL(y_start, 8);
    cotangent_matmul_dense_vjp(in_x, in_y, in_z_bar, &x_bar, &y_bar);
    for (i = 0; i < I; i++) {
        for (j = 0; j < J; j++) {
            double sum = x_start[i][j];
            for (k = 0; k < K; k++) {
                sum += (double)z_bar[i][k] * y[j][k];
            }
            near(x_bar[i][j], sum);
        }
    }
    for (j = 0; j < J; j++) {
        for (k = 0; k < K; k++) {
            double sum = y_start[j][k];
            for (i = 0; i < I; i++) {
                sum += (double)z_bar[i][k] * x[i][j];
            }
            near(y_bar[j][k], sum);
        }
    }
    done("matmul vjp adds", 1e-5);

    cotangent_matmul_dense_vjp_x_store(in_y, in_z_bar, &x_bar);
    for (i = 0; i < I; i++) {
        for (j = 0; j < J; j++) {
            double sum = 0.0;
            for (k = 0; k < K; k++) {
                sum += (double)z_bar[i][k] * y[j][k];
            }
            near(x_bar[i][j], sum);
        }
    }
    done("matmul vjp_x_store stores", 1e-5);
}

/* The product of two vectors: the result is a number. */
static void inner(void)
{
    enum { J = cotangent_matmul_inner_f64_X_LEN };
    static cotangent_matmul_inner_f64_X x, x_bar;
    static cotangent_matmul_inner_f64_Y y;
    cotangent_matmul_inner_f64_Z z = -3.0, z_bar = 0.5;
    double sum = 0.0;
    int j;

    FILL_DOUBLE(x, 1);
    FILL_DOUBLE(y, 2);
    cotangent_matmul_inner_f64_forward((const cotangent_matmul_inner_f64_X *)&x,
                                       (const cotangent_matmul_inner_f64_Y *)&y, &z);
    cotangent_matmul_inner_f64_vjp_x((const cotangent_matmul_inner_f64_Y *)&y, &z_bar, &x_bar);
    for (j = 0; j < J; j++) {
        sum += x[j] * y[j];
        near(x_bar[j], 0.5 * y[j]);
    }
    near(z, sum);
    done("inner product in double", 1e-14);
}

/* Stride 2 and zero padding before and behind. */
static void conv(void)
{
    enum {
        N = cotangent_conv_strided_X_DIM_0,
        H = cotangent_conv_strided_X_DIM_1,
        W = cotangent_conv_strided_X_DIM_2,
        CX = cotangent_conv_strided_X_DIM_3,
        TH = cotangent_conv_strided_K_DIM_0,
        TW = cotangent_conv_strided_K_DIM_1,
        CY = cotangent_conv_strided_K_DIM_3,
        OH = cotangent_conv_strided_Y_DIM_1,
        OW = cotangent_conv_strided_Y_DIM_2
    };
    static cotangent_conv_strided_X x, x_bar;
    static cotangent_conv_strided_K k, k_bar;
    static cotangent_conv_strided_Y y, y_bar;
    static double value[N][OH][OW][CY], of_x[N][H][W][CX], of_k[TH][TW][CX][CY];
    const cotangent_conv_strided_X *const in_x = (const cotangent_conv_strided_X *)&x;
    const cotangent_conv_strided_K *const in_k = (const cotangent_conv_strided_K *)&k;
    const cotangent_conv_strided_Y *const in_y_bar = (const cotangent_conv_strided_Y *)&y_bar;
    int n, p, q, s, t, a, b;

    FILL(x, 1);
    FILL(k, 2);
    FILL(y_bar, 3);
    /* Each product once: to the value and to both cotangents. */
    for (n = 0; n < N; n++) {
        for (p = 0; p < OH; p++) {
            for (q = 0; q < OW; q++) {
                for (s = 0; s < TH; s++) {
                    for (t = 0; t < TW; t++) {
                        const int h = 2 * p + s - 1, w = 2 * q + t - 1;
                        if (h < 0 || h >= H || w < 0 || w >= W) {
                            continue;
                        }
                        for (a = 0; a < CX; a++) {
                            for (b = 0; b < CY; b++) {
                                value[n][p][q][b] += (double)x[n][h][w][a] * k[s][t][a][b];
                                of_x[n][h][w][a] += (double)y_bar[n][p][q][b] * k[s][t][a][b];
                                of_k[s][t][a][b] += (double)y_bar[n][p][q][b] * x[n][h][w][a];
                            }
                        }
                    }
                }
            }
        }
    }
    cotangent_conv_strided_forward(in_x, in_k, &y);
    for (n = 0; n < cotangent_conv_strided_Y_LEN; n++) {
        near(((const float *)&y)[n], ((const double *)&value)[n]);
    }
    done("conv forward", 1e-5);
    cotangent_conv_strided_vjp_store(in_x, in_k, in_y_bar, &x_bar, &k_bar);
    for (n = 0; n < cotangent_conv_strided_X_LEN; n++) {
        near(((const float *)&x_bar)[n], ((const double *)&of_x)[n]);
    }
    done("conv vjp of x", 1e-5);
    for (n = 0; n < cotangent_conv_strided_K_LEN; n++) {
        near(((const float *)&k_bar)[n], ((const double *)&of_k)[n]);
    }
    done("conv vjp of k", 1e-5);
}

/* Its vjp reads the output. */
static void softmax(void)
{
    enum { I = cotangent_softmax_rows_f64_X_DIM_0, J = cotangent_softmax_rows_f64_X_DIM_1 };
    static cotangent_softmax_rows_f64_X x, x_dot, x_bar;
    static cotangent_softmax_rows_f64_Y y, y_dot, y_bar;
    int i, j;

    FILL_DOUBLE(x, 1);
    FILL_DOUBLE(x_dot, 2);
    FILL_DOUBLE(y_bar, 3);
    cotangent_softmax_rows_f64_jvp((const cotangent_softmax_rows_f64_X *)&x,
                                   (const cotangent_softmax_rows_f64_X *)&x_dot, &y, &y_dot);
    cotangent_softmax_rows_f64_vjp_store((const cotangent_softmax_rows_f64_Y *)&y,
                                         (const cotangent_softmax_rows_f64_Y *)&y_bar, &x_bar);
    for (i = 0; i < I; i++) {
        double sum = 0.0, mean = 0.0, pull = 0.0;
        for (j = 0; j < J; j++) {
            sum += exp(x[i][j]);
        }
        for (j = 0; j < J; j++) {
            mean += exp(x[i][j]) / sum * x_dot[i][j];
            pull += exp(x[i][j]) / sum * y_bar[i][j];
        }
        for (j = 0; j < J; j++) {
            const double share = exp(x[i][j]) / sum;
            near(y[i][j], share);
            near(y_dot[i][j], share * (x_dot[i][j] - mean));
            near(x_bar[i][j], share * (y_bar[i][j] - pull));
        }
    }
    done("softmax jvp and vjp_store", 1e-14);
}

int main(void)
{
    matmul();
    inner();
    conv();
    softmax();
    return failures != 0;
}
