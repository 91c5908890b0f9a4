/* The one loop that nearly all of the time is spent in: four rows of a matrix times sixteen columns of another.
 *
 *     y[m][n] += sum over k of a[m][k] b[k][n]
 *
 * The terms of each sum are added to y in the order of k, each product and each sum rounded by itself. Several sums run
 * side by side, and so a processor with vectors is kept busy although no sum is taken apart. b lies in rows of TILE
 * numbers, of which only the first `columns` count. */
enum { ROWS = 4, TILE = 16 };

static void four_rows(float *restrict y, size_t y_row, const float *restrict a, size_t a_row, const float *restrict b,
                      int depth, int columns)
{
    float sum[ROWS][TILE] = {{0}};
    for (int m = 0; m < ROWS; m++)
        for (int n = 0; n < columns; n++)
            sum[m][n] = y[m * y_row + n];
    for (int k = 0; k < depth; k++)
        for (int n = 0; n < TILE; n++) {
            const float value = b[k * TILE + n];
            sum[0][n] += a[k] * value;
            sum[1][n] += a[a_row + k] * value;
            sum[2][n] += a[2 * a_row + k] * value;
            sum[3][n] += a[3 * a_row + k] * value;
        }
    for (int m = 0; m < ROWS; m++)
        for (int n = 0; n < columns; n++)
            y[m * y_row + n] = sum[m][n];
}

static void one_row(float *restrict y, const float *restrict a, const float *restrict b, int depth, int columns)
{
    float sum[TILE] = {0};
    for (int n = 0; n < columns; n++)
        sum[n] = y[n];
    for (int k = 0; k < depth; k++)
        for (int n = 0; n < TILE; n++)
            sum[n] += a[k] * b[k * TILE + n];
    for (int n = 0; n < columns; n++)
        y[n] = sum[n];
}

/* a (rows, depth) and b (depth, columns <= TILE); the rows of y and of a begin y_row and a_row numbers apart. */
static void product(float *y, size_t y_row, const float *a, size_t a_row, const float *b, int rows, int depth,
                    int columns)
{
    int m = 0;
    for (; m + ROWS <= rows; m += ROWS)
        four_rows(y + m * y_row, y_row, a + m * a_row, a_row, b, depth, columns);
    for (; m < rows; m++)
        one_row(y + m * y_row, a + m * a_row, b, depth, columns);
}
