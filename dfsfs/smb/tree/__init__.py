"""Tree connects: what can be done with paths and open files of one share."""
