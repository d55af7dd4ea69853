"""Where answers are kept: tables, connections, the one writer, schemas, the audit log and backups."""
