#include "mobilevit.h"

#include <stdint.h>
#include <string.h>

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF /* else a product and a sum may be rounded once for both; gcc: -ffp-contract=off */
#endif

/* To whom the values between are shown, if to anyone. */
typedef struct {
    mobilevit_visit visit;
    void *user;
    size_t number; /* of the image, in the batch */
} tracing;

/* A piece of a node's value: `count` numbers of this image's, from `first` on. */
static void show(const tracing *trace, int number, const float *data, size_t first, size_t count)
{
    if (trace->visit) {
        const mobilevit_node *node = &mobilevit_nodes[number];
        size_t size = 1; /* of one image */
        for (int i = 0; i < node->rank; i++)
            size *= node->shape[i];
        size /= MOBILEVIT_BATCH;
        trace->visit(trace->user, node, data, trace->number * size + first, count);
    }
}
