"""The commands that apply a trained model to images: encode, score and render. They read their arguments alike."""
