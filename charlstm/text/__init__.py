"""From files to ids and back: vocabularies, encodings, the corpus."""
