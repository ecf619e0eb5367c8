"""The demo: files that `penstock demo` copies into a folder for a newcomer to run and edit."""
