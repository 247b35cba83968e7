"""The DFS referral protocol (MS-DFSC): messages, caches, and the resolution of a path. No input or output."""
