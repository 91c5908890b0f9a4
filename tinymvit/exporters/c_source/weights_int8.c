/* The weights of a convolution or a linear layer, a row for each output channel, as they are stored: whole multiples,
 * in a byte each, of a scale for each row. */
typedef struct {
    const signed char *values;
    const float *scales;
    int row; /* numbers from one row to the next */
} matrix;

typedef struct {
    const float *values;
    int row;
} block; /* a part of it in float32 */

/* The matrix that begins at this row and column of another. */
static matrix part(matrix m, int row, int column)
{
    m.values += (size_t)row * m.row + column;
    m.scales += row;
    return m;
}

/* Some rows, from `first` on, of so many columns, in float32: written into `room`. */
static block read_rows(matrix m, int first, int rows, int columns, float *room)
{
    m = part(m, first, 0);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++)
            room[i * columns + j] = (float)m.values[(size_t)i * m.row + j] * m.scales[i];
    return (block){room, columns};
}
