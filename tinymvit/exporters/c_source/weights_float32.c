/* The weights of a convolution or a linear layer, a row for each output channel, as they are stored: float32. */
typedef struct {
    const float *values;
    int row; /* numbers from one row to the next */
} matrix;

typedef matrix block; /* a part of it in float32 */

/* The matrix that begins at this row and column of another. */
static matrix part(matrix m, int row, int column)
{
    m.values += (size_t)row * m.row + column;
    return m;
}

/* Some rows, from `first` on, of so many columns. They stay where they are; `room` is not needed. */
static block read_rows(matrix m, int first, int rows, int columns, float *room)
{
    (void)rows, (void)columns, (void)room;
    return part(m, first, 0);
}
