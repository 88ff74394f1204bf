"""One page that shows what a model is and how it works; each section is a file."""
