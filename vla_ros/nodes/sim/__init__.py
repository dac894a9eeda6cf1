"""The simulated robot and its scripted expert behind the topics of a contract."""
