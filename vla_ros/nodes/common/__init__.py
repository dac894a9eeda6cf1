"""What every node needs: parameters as tables, process set-up, memory."""
