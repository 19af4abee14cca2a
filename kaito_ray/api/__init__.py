"""The project's words: Workspace, its status, names and conditions. Pure; nothing here does I/O."""
