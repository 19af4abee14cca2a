"""The rules of admission, one file for each part of a manifest. Each yields every fault it finds."""
