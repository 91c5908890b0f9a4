/* The weights of mobilevit.c, by their bytes: strings, which a compiler takes in a tenth of the time of numbers. */
#include "mobilevit.h"

#if defined __clang__ ? __clang_major__ >= 21 : defined __GNUC__ && __GNUC__ >= 15
#pragma GCC diagnostic ignored "-Wunterminated-string-initialization" /* they are no text */
#endif

