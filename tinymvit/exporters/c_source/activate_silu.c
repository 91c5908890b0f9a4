#include "sigmoid_of.c"

/* tinymvit/ops/activation.py: x / (1 + e^-x) */
static void activate_silu(float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = x[i] * sigmoid_of(x[i]);
}
