#include "product.c"
#include "weights.c"

/* tinymvit/ops/linear.py
 *
 *     y[t, o] = bias[o] + sum over i of x[t, i] weight[o, i]
 *
 * TILE outputs at a time: their weights are copied into columns. bias may be NULL. scratch: (inputs, TILE + 1). */
static void linear(float *y, const float *x, matrix weight, const float *bias, int tokens, int inputs, int outputs,
                   float *scratch)
{
    float *const columns = scratch, *const room = scratch + (size_t)inputs * TILE;
    for (int t = 0; t < tokens; t++)
        for (int o = 0; o < outputs; o++)
            y[(size_t)t * outputs + o] = bias ? bias[o] : 0.0f;
    for (int first = 0; first < outputs; first += TILE) {
        const int count = outputs - first < TILE ? outputs - first : TILE;
        memset(columns, 0, (size_t)inputs * TILE * sizeof *columns);
        for (int n = 0; n < count; n++) {
            const float *w = read_rows(weight, first + n, 1, inputs, room).values;
            for (int i = 0; i < inputs; i++)
                columns[i * TILE + n] = w[i];
        }
        product(y + first, outputs, x, inputs, columns, tokens, inputs, count);
    }
}
