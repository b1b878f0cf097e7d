#!py
"""
A change of all nodes without a moment away, on the master; see docs/cluster.md:

    salt-run state.orchestrate orthanc.rolling pillar='{"nodes": ["node-1", "node-2"],
        "balancers": ["balancer"]}'

Node by node: it gets nothing new any more, what is under way on it ends, the formula is applied,
which waits until Orthanc serves, and its index is read. At the first one that is not,
all ends, and that node is left out of the balancers.
"""


def run():
    nodes, balancers = (__pillar__.get(key) for key in ("nodes", "balancers"))
    if not (isinstance(nodes, list) and isinstance(balancers, list) and nodes and balancers):
        said = 'say which: pillar=\'{"nodes": ["node-1"], "balancers": ["balancer"]}\''
        return {"orthanc-rolling": {"test.fail_without_changes": [{"name": said}]}}
    states, last = {}, []
    steps = [step for node in map(str, nodes) for step in of_node(node, balancers)]
    steps.append(("all nodes are in again", *balance(balancers, [])))
    for name, kind, arguments in steps:
        states[name] = {kind: [*arguments, {"expect_minions": True}, {"require": last}]}
        last = [{"salt": name}]
    return states


def of_node(node, balancers):
    """Return the steps of one node: what each is called, and its state with the arguments."""
    target = [{"tgt": [node]}, {"tgt_type": "list"}]
    return [
        (f"{node} is out", *balance(balancers, [node])),
        (f"{node} is at rest", "salt.function", [{"name": "orthanc.drained"}, *target]),
        (f"{node} is applied", "salt.state", [{"sls": ["orthanc"]}, *target]),
        (f"{node} is well", "salt.function", [{"name": "orthanc.statistics"}, *target]),
    ]


def balance(balancers, out):
    """Return the state by which the balancers leave some nodes out, and its arguments."""
    pillar = {"orthanc": {"balancer": {"out": out}}}
    return "salt.state", [
        {"sls": ["orthanc.balancer"]},
        {"pillar": pillar},
        {"tgt": balancers},
        {"tgt_type": "list"},
    ]
