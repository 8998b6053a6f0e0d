"""Tasks about images with text: questions answered, statements judged, captions written."""
