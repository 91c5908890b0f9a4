#include "exponential.c"

/* tinymvit/ops/elementary.py: a polynomial near 0, else (1 - e) / (1 + e) with e = e^(-2 |x|). */
static inline float tanh_of(float x)
{
    const float size = x < 0.0f ? -x : x, square = x * x;
    float near = -5.70498872745e-3f;
    near = near * square + 2.06390887954e-2f;
    near = near * square + -5.37397155531e-2f;
    near = near * square + 1.33314422036e-1f;
    near = near * square + -3.33332819422e-1f;
    near = near * square * x + x;
    const float e = exponential(-2.0f * size), far = (1.0f - e) / (1.0f + e);
    return size < 0.625f ? near : x < 0.0f ? -far : far;
}
