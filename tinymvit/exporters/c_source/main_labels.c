enum { CLASSES = ${classes}, PIXELS = ${pixels} };

static const char *const labels[CLASSES] = {
${names}};
