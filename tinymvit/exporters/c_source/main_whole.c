    return ${result}[number * PIXELS + pixel];
