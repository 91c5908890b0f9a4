/* The loop in which nearly all of the time is spent: two rows of a matrix times 32 columns of another.
 *
 *     y[m][n] += sum over k of a[m][k] b[k][n]
 *
 * The terms of each sum are added to y in the order of k, each product and each sum rounded by itself. Many sums run
 * side by side, and so a processor with vectors is busy although no sum is taken apart. 2 x 32 of them were the fastest
 * with gcc 12 and clang, with and without AVX; gcc keeps 4 x 16 in memory at -O3, 20 times as slowly. */
enum { ROWS = 2, TILE = 32 };

static void two_rows(float *restrict y, size_t y_row, const float *restrict a, size_t a_row, const float *restrict b,
                     int depth)
{
    float sum[ROWS][TILE];
    for (int m = 0; m < ROWS; m++)
        for (int n = 0; n < TILE; n++)
            sum[m][n] = y[m * y_row + n];
    for (int k = 0; k < depth; k++)
        for (int m = 0; m < ROWS; m++)
            for (int n = 0; n < TILE; n++)
                sum[m][n] += a[m * a_row + k] * b[(size_t)k * TILE + n];
    for (int m = 0; m < ROWS; m++)
        for (int n = 0; n < TILE; n++)
            y[m * y_row + n] = sum[m][n];
}

/* a (rows, depth), b (depth, TILE), of which the first `columns` count, y (rows, columns); the rows of y and of a begin
 * y_row and a_row numbers apart. */
static void product(float *y, size_t y_row, const float *a, size_t a_row, const float *b, int rows, int depth,
                    int columns)
{
    for (int m = 0; m < rows; m += ROWS) {
        const int count = rows - m < ROWS ? rows - m : ROWS;
        if (count == ROWS && columns == TILE) {
            two_rows(y + m * y_row, y_row, a + m * a_row, a_row, b, depth);
            continue;
        }
        float edge[ROWS * TILE] = {0}; /* what is narrower is computed in here */
        for (int i = 0; i < count; i++)
            memcpy(edge + i * TILE, y + (m + i) * y_row, columns * sizeof *y);
        two_rows(edge, TILE, a + m * a_row, count == ROWS ? a_row : 0, b, depth);
        for (int i = 0; i < count; i++)
            memcpy(y + (m + i) * y_row, edge + i * TILE, columns * sizeof *y);
    }
}
