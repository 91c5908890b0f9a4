/* A MobileViT, written by tinymvit, in C99: nothing but the C library, no allocation, no files. Task: ${task}.
 *
 *     static float arena[MOBILEVIT_ARENA];
 *     mobilevit_run(..., arena);
 *
 * Input: ${about_input}.
 * Weights: ${precision}. All arithmetic is float32. All arrays are in C order, and belong to the caller. */
#ifndef MOBILEVIT_H
#define MOBILEVIT_H

#include <stddef.h>
#include <stdint.h>

#define MOBILEVIT_BATCH ${batch} /* images a run */
#define MOBILEVIT_INPUT ${input} /* numbers of the input */
${results}#define MOBILEVIT_ARENA ${arena} /* float32 numbers that a run works in; what they are before does not matter */
#define MOBILEVIT_NODES ${nodes}

void mobilevit_run(${parameters});

/* The same, and every value between is shown to `visit`: in pieces, `count` numbers of a node's value from `first` on.
 * The pieces of one node come in order; those of nodes that are computed together take turns. */
typedef struct {
    const char *name; /* as in the model's graph */
    int rank, shape[4];
} mobilevit_node;

extern const mobilevit_node mobilevit_nodes[MOBILEVIT_NODES];

typedef void (*mobilevit_visit)(void *user, const mobilevit_node *node, const float *data, size_t first, size_t count);

void mobilevit_trace(${parameters}, mobilevit_visit visit, void *user);

/* Logits become probabilities, in place. */
void mobilevit_softmax(float *x, int count);

/* What weights.c has for mobilevit.c: the bytes of float32 numbers, the lowest first. */
typedef union {
    unsigned char bytes[${rows}][${row}];
    float values[${numbers}];
} mobilevit_numbers;

extern const mobilevit_numbers mobilevit_weights;
${multiples}
#endif
