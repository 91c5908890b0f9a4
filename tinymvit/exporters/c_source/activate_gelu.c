#include "normal_tail.c"

/* tinymvit/ops/activation.py: x times the probability that a normal variable is below x */
static void activate_gelu(float *x, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const float tail = normal_tail(x[i] < 0.0f ? -x[i] : x[i]);
        x[i] = x[i] * (x[i] < 0.0f ? tail : 1.0f - tail);
    }
}
