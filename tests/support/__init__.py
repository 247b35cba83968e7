"""What tests stand on: labs of real servers, and fakes of what dfsfs talks to."""
