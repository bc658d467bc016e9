"""What an engine works out of a model before it decides anything, kept for the next time that an equal model is asked about."""
