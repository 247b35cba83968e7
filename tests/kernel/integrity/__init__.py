"""What one program has done is so for every other, whoever looks on: each test is a case that once went wrong."""
