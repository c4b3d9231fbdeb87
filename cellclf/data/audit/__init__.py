"""What is wrong with a data set: copies, families of augmented copies, conflicts, leaks, shortcuts. Imports the data half only."""
