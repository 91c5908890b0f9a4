#include "sigmoid_of.c"

/* tinymvit/ops/activation.py: 1 / (1 + e^-x) */
static void activate_sigmoid(float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = sigmoid_of(x[i]);
}
