"""What `import fvv` offers: functions over values in memory, each of which goes the way of the verb of its name."""
