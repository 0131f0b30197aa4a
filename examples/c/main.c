/* Fits the weights of a layer by gradient descent, the gradients from generated kernels. */
#include "layer.h"
#include <stdio.h>

enum { ROWS = layer_matmul_dense_X_DIM_0, INPUTS = layer_matmul_dense_X_DIM_1, OUTPUTS = layer_matmul_dense_Y_DIM_1 };

/* Arrays of a kernel's types; large ones do not belong on the stack. */
static layer_matmul_dense_X x;
static layer_matmul_dense_Y weights, wanted, gradient;
static layer_matmul_dense_Z z, z_bar, target;

/* Before C23 an array that is written elsewhere needs this to be read as constant. */
static const layer_matmul_dense_X *const in_x = (const layer_matmul_dense_X *)&x;
static const layer_matmul_dense_Y *const in_weights = (const layer_matmul_dense_Y *)&weights;
static const layer_matmul_dense_Y *const in_wanted = (const layer_matmul_dense_Y *)&wanted;
static const layer_loss_dense_Z *const in_z = (const layer_loss_dense_Z *)&z;
static const layer_loss_dense_T *const in_target = (const layer_loss_dense_T *)&target;
static const layer_matmul_dense_Z *const in_z_bar = (const layer_matmul_dense_Z *)&z_bar;

int main(void)
{
    const float one = 1.0f, rate = 0.05f;
    float loss = 0.0f;
    int i, j, k, step;

    for (i = 0; i < ROWS; i++) {
        for (j = 0; j < INPUTS; j++) {
            x[i][j] = (float)((i * 7 + j * 5) % 11) / 11.0f - 0.5f;
        }
    }
    for (j = 0; j < INPUTS; j++) {
        for (k = 0; k < OUTPUTS; k++) {
            wanted[j][k] = (float)((j * 3 + k) % 5) - 2.0f;
        }
    }
    layer_matmul_dense_forward(in_x, in_wanted, &target);

    for (step = 0; step <= 1000; step++) {
        layer_matmul_dense_forward(in_x, in_weights, &z);
        layer_loss_dense_forward(in_z, in_target, &loss);
        if (step % 200 == 0) {
            printf("step %4d: loss %.6f\n", step, (double)loss);
        }
        /* Backwards: the loss, then the product, the first contributions stored. */
        layer_loss_dense_vjp_z_store(in_z, in_target, &one, &z_bar);
        layer_matmul_dense_vjp_y_store(in_x, in_z_bar, &gradient);
        for (j = 0; j < INPUTS; j++) {
            for (k = 0; k < OUTPUTS; k++) {
                weights[j][k] -= rate * gradient[j][k];
            }
        }
    }
    return !(loss < 0.001f);
}
