"""Video files: which frames of them are read, how they are decoded, kept on the disk and made into model inputs."""
