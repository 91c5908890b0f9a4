    return ${result}[image * PIXELS + pixel];
