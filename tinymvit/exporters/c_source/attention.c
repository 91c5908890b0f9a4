#include "product.c"
#include "softmax.c"

/* tinymvit/ops/attention.py, all of it: QUERIES at a time, so that the (tokens, tokens) scores never exist as a
 * whole.
 *
 *     scores[q, k] = sum over i of query[q, i] key[k, i] / root
 *     probabilities = softmax of each row
 *     context[q, i] = sum over k of probabilities[q, k] value[k, i]
 *
 * query, key, value and context are (sequences, tokens, heads size), a head's numbers side by side. scratch: the keys
 * of a head in columns, (tokens / TILE, size, TILE); its values, (size / TILE, tokens, TILE), both rounded up; and
 * (QUERIES, tokens) scores. nodes: the numbers of scores and probabilities. */
enum { QUERIES = 8 };

typedef struct {
    int sequences, tokens, heads, size;
    float root; /* of size */
} attention_shape;

static void attend(float *context, const float *query, const float *key, const float *value, attention_shape s,
                   size_t row, float *scratch, size_t first, const tracing *trace, const int nodes[2])
{
    const int key_tiles = (s.tokens + TILE - 1) / TILE, value_tiles = (s.size + TILE - 1) / TILE;
    float *const keys = scratch, *const values = keys + (size_t)key_tiles * s.size * TILE;
    float *const scores = values + (size_t)value_tiles * s.tokens * TILE;
    for (int k = 0; k < key_tiles * TILE; k++)
        for (int i = 0; i < s.size; i++)
            keys[((size_t)k / TILE * s.size + i) * TILE + k % TILE] = k < s.tokens ? key[k * row + i] : 0.0f;
    for (int k = 0; k < s.tokens; k++)
        for (int i = 0; i < value_tiles * TILE; i++)
            values[((size_t)(i / TILE) * s.tokens + k) * TILE + i % TILE] = i < s.size ? value[k * row + i] : 0.0f;
    for (int q = 0; q < s.tokens; q += QUERIES) {
        const int rows = s.tokens - q < QUERIES ? s.tokens - q : QUERIES;
        const size_t count = (size_t)rows * s.tokens;
        memset(scores, 0, count * sizeof *scores);
        for (int k = 0; k < s.tokens; k += TILE)
            product(scores + k, s.tokens, query + q * row, row, keys + (size_t)k * s.size, rows, s.size,
                    s.tokens - k < TILE ? s.tokens - k : TILE);
        for (size_t k = 0; k < count; k++)
            scores[k] = scores[k] / s.root;
        show(trace, nodes[0], scores, first + (size_t)q * s.tokens, count);
        for (int m = 0; m < rows; m++)
            softmax(scores + (size_t)m * s.tokens, s.tokens);
        show(trace, nodes[1], scores, first + (size_t)q * s.tokens, count);
        for (int m = 0; m < rows; m++)
            memset(context + (q + m) * row, 0, s.size * sizeof *context);
        for (int i = 0; i < s.size; i += TILE)
            product(context + q * row + i, row, scores, s.tokens, values + (size_t)i * s.tokens, rows, s.tokens,
                    s.size - i < TILE ? s.size - i : TILE);
    }
}

static void attention(float *context, const float *query, const float *key, const float *value, attention_shape s,
                      float *scratch, const tracing *trace, const int nodes[2])
{
    const size_t row = (size_t)s.heads * s.size;
    for (int sequence = 0; sequence < s.sequences; sequence++)
        for (int head = 0; head < s.heads; head++) {
            const size_t start = sequence * s.tokens * row + (size_t)head * s.size;
            attend(context + start, query + start, key + start, value + start, s, row, scratch,
                   ((size_t)sequence * s.heads + head) * s.tokens * s.tokens, trace, nodes);
        }
}
