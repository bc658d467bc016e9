"""Campaigns of random histories, on several cores or many machines."""
