"""What MS-DFSC asks of a client, duty by duty: see duties.py."""
