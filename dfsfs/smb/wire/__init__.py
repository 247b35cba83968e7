"""The bytes of SMB2 messages and of what they carry (MS-SMB2 2.2, MS-FSCC). Pure."""
