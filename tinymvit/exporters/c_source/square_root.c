/* tinymvit/ops/elementary.py: the root of x >= 0, within a unit in the last place, by Heron's rule. */
static inline float square_root(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits >> 1) + 0x1FBD1DF5u;
    float y;
    memcpy(&y, &bits, sizeof y);
    y = 0.5f * (y + x / y);
    y = 0.5f * (y + x / y);
    y = 0.5f * (y + x / y);
    return x > 0.0f ? y : x;
}
