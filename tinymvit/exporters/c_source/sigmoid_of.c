#include "exponential.c"

/* tinymvit/ops/elementary.py: 1 / (1 + e^-x), by e^-|x|. */
static inline float sigmoid_of(float x)
{
    const float e = exponential(x < 0.0f ? x : -x);
    return (x >= 0.0f ? 1.0f : e) / (1.0f + e);
}
