"""The researcher's dashboard: accounts, a live view, people, decisions, money, the study and its export."""
