#include "tanh_of.c"

/* tinymvit/ops/activation.py: tanh(x) */
static void activate_tanh(float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = tanh_of(x[i]);
}
