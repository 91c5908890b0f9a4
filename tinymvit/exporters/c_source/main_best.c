    const float *scores = ${result} + number * CLASSES * PIXELS + pixel;
    int best = 0;
    for (int c = 1; c < CLASSES; c++)
        if (scores[c * PIXELS] > scores[best * PIXELS])
            best = c;
    return best;
