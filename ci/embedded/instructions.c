/* A plugin for user-mode QEMU 7.2: counts the instructions of each call of some functions, those of the functions that they call included.
 *   gcc -O2 -shared -fPIC -o libinstructions.so instructions.c
 *   qemu-arm -plugin ./libinstructions.so,table=FILE PROGRAM
 * FILE has a line `address name` for each function, addresses in hexadecimal; the function `counted` ends the count of the last one that began.
 * Gives a line `name instructions` on standard error for each that ran. Debian packages no header of the plugin interface; these are its
 * declarations (https://www.qemu.org/docs/master/devel/tcg-plugins.html). */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int, void *, uint64_t);
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, void (*)(unsigned, void *), int, void *);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
#define EXPORT __attribute__((visibility("default")))
enum { ADD = 0, NO_REGISTERS = 0 };

struct function {
  uint64_t address;
  char name[160];
};
static struct function functions[4096];
static size_t count;
static uint64_t executed, began;
static const struct function *last;

static void at(unsigned cpu, void *data) {
  const struct function *f = data;
  (void)cpu;
  if (strcmp(f->name, "counted") != 0) {
    last = f;
    began = executed;
  } else if (last) {
    fprintf(stderr, "%s %" PRIu64 "\n", last->name, executed - began);
    last = NULL;
  }
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
  (void)id;
  for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); i++) {
    struct qemu_plugin_insn *one = qemu_plugin_tb_get_insn(block, i);
    uint64_t address = qemu_plugin_insn_vaddr(one);
    for (size_t f = 0; f < count; f++)
      if (functions[f].address == address) qemu_plugin_register_vcpu_insn_exec_cb(one, at, NO_REGISTERS, &functions[f]);
    qemu_plugin_register_vcpu_insn_exec_inline(one, ADD, &executed, 1);
  }
}

EXPORT int qemu_plugin_version = 1;

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
  (void)info;
  for (int i = 0; i < argc; i++) {
    if (strncmp(argv[i], "table=", 6) != 0) continue;
    FILE *file = fopen(argv[i] + 6, "r");
    if (!file) return 1;
    while (count < 4096 && fscanf(file, "%" SCNx64 " %159s", &functions[count].address, functions[count].name) == 2) count++;
    fclose(file);
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  return 0;
}
