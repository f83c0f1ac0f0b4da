"""`grow tune`: what is searched (space), asked of Optuna (study), trained and judged (trials), and written down (winner)."""
