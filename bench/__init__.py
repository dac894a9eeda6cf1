"""What the path from observation to command costs, as ratios within one run. Run as ``python -m bench``.

Owns synthetic sensors, stand-in policies and the cases; measures the package from outside and changes nothing in it.

    __main__      command line → cases → out/bench/result.json and a table
    cases/        one module per case: which processes, which numbers
    arms          starts the processes of one measurement and collects what they wrote
    plans         what a child is told and what it reports, as JSON
    children/     the processes: a synthetic robot, subscribers, a bare responder, the policy node
    contracts, messages, policy   the synthetic robot's contract, its sensor bytes and its policy
    statistics, results, table    numbers → ratios → JSON → text
"""
