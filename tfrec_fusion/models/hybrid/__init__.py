"""Estimators solved in closed form beside the towers: collaborative and content factors, ratings, their
blend."""
