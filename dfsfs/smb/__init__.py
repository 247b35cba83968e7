"""An SMB 2 and 3 client (MS-SMB2): connections, sessions, trees and files. Knows nothing of DFS referrals."""
