#include "exponential.c"

/* tinymvit/ops/elementary.py: the probability that a normal variable exceeds x >= 0. */
static inline float normal_tail(float x)
{
    x = x > 14.0f ? 14.0f : x;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= 0xFFFFF000u;
    float high; /* without the last twelve bits: its square is exact */
    memcpy(&high, &bits, sizeof high);
    const float e = exponential(-0.5f * high * high) * exponential(-0.5f * (x - high) * (x + high));
    const float t = 1.0f / (1.0f + 0.3125f * x);
    float y = -0.01467377133667469f;
    y = y * t + 0.0664241760969162f;
    y = y * t + -0.08821495622396469f;
    y = y * t + -0.016556859016418457f;
    y = y * t + 0.0808187946677208f;
    y = y * t + 0.004904518369585276f;
    y = y * t + 0.11066702008247375f;
    y = y * t + 0.10637032985687256f;
    y = y * t + 0.12568098306655884f;
    y = y * t + 0.12457606196403503f;
    y = y * t + 3.6981789435230894e-06f;
    return e * y;
}
