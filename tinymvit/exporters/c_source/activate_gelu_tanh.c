#include "sigmoid_of.c"

/* tinymvit/ops/activation.py: x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), which is a sigmoid */
static void activate_gelu_tanh(float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = x[i] * sigmoid_of(1.59576912f * (x[i] + 0.044715f * x[i] * x[i] * x[i]));
}
