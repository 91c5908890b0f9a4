/* tinymvit/ops/elementary.py: e^x for x <= 0, within a unit in the last place; 0 below -87. */
static inline float exponential(float x)
{
    x = x < -87.0f ? -88.0f : x; /* of which 2^n becomes 0 */
    const float shifted = x * 1.44269504f + 12582912.0f; /* n = x / ln 2, rounded, is in its last bits */
    const float n = shifted - 12582912.0f;
    float r = x - n * 0.693359375f; /* x - n ln 2, in two steps */
    r = r - n * -2.12194440e-4f;
    float y = 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = r * r * y + r + 1.0f;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 23) + 0x3F800000u; /* 2^n */
    float power;
    memcpy(&power, &bits, sizeof power);
    return y * power;
}
