"""
nginx before several nodes of Orthanc.

The work is done by the execution module :py:mod:`orthanc_balancer`. In the place of a secret, what
belongs to it here has a reference to the pillar; see :py:mod:`orthanc_pillar`.
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "orthanc_balancer"


def __virtual__():
    if "orthanc_balancer.put" not in __salt__:
        return False, "orthanc_balancer: the execution module of this name is not on this minion"
    return __virtualname__


def serving(name, balancer):
    """
    Ensure that nginx serves before the nodes, or that it does not where there is none to be. What
    is under way goes on while it changes. If nginx does not take its configuration, the one before
    stays.

    name
        The path of its configuration.

    balancer
        What belongs to it; see the execution module :py:mod:`orthanc_balancer`.

    .. code-block:: yaml

        /etc/nginx/balancer.conf:
          orthanc_balancer.serving:
            - balancer:
                texts:
                  /etc/nginx/balancer.conf: null
                  /etc/systemd/system/balancer.service: null
                pems: {}
                config: /etc/nginx/balancer.conf
                unit: /etc/systemd/system/balancer.service
                command: /usr/sbin/nginx
                ports: []
                certificate: null
    """
    asked = any(balancer["texts"].values())
    comment = "The balancer serves" if asked else "There is no balancer"
    ret = {"name": name, "result": True, "changes": {}, "comment": comment}
    try:
        balancer = __salt__["orthanc_pillar.resolve"](balancer)
        ret["changes"] = __salt__["orthanc_balancer.pending"](balancer)
        if __opts__["test"] and ret["changes"]:
            ret.update(result=None, comment="The balancer would be changed")
        elif ret["changes"]:
            __salt__["orthanc_balancer.put"](balancer)
            ret["comment"] = f"{comment}; it was changed"
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, changes={}, comment=f"The balancer was not changed: {err}")
    return ret
