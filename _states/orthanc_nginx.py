"""
nginx in front of Orthanc, but for the moment when it takes over: that is ``orthanc.serving``.

The work is done by the execution module :py:mod:`orthanc_nginx`. In the place of a secret, what
belongs to a site here has a reference to the pillar; see :py:mod:`orthanc_pillar`.
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "orthanc_nginx"


def __virtual__():
    if "orthanc_nginx.tried" not in __salt__:
        return False, "orthanc_nginx: the execution module of this name is not on this minion"
    return __virtualname__


def tried(name, proxy):
    """
    Fail, with the reasons, if nginx would not take its site. Nothing is changed.

    name
        The path of the site.

    proxy
        What belongs to the site; see the execution module :py:mod:`orthanc_nginx`.

    .. code-block:: yaml

        /etc/nginx/conf.d/orthanc-formula.conf:
          orthanc_nginx.tried:
            - proxy:
                site: /etc/nginx/conf.d/orthanc-formula.conf
                pem: /etc/nginx/orthanc-formula.pem
                text: 'server { listen 8042 ssl; … }'
                certificate: null
                service: nginx
                command: /usr/sbin/nginx
                orthanc: /usr/sbin/Orthanc
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "nginx takes its site"}
    if proxy["text"] is None:
        ret["comment"] = "orthanc:https asks for no nginx"
        return ret
    try:
        problems = __salt__["orthanc_nginx.tried"](__salt__["orthanc_pillar.resolve"](proxy))
    except (CommandExecutionError, SaltInvocationError) as err:
        problems = [str(err)]
    if problems:
        lines = "\n".join(problems)
        ret.update(result=False, comment=f"Neither nginx nor Orthanc was changed.\n{lines}")
    return ret


def absent(name, proxy):
    """
    Ensure that nginx has nothing of the formula; all else of it stays as it is.

    name
        The path of the site.

    proxy
        What belongs to the site; see the execution module :py:mod:`orthanc_nginx`.

    .. code-block:: yaml

        /etc/nginx/conf.d/orthanc-formula.conf:
          orthanc_nginx.absent:
            - proxy:
                site: /etc/nginx/conf.d/orthanc-formula.conf
                pem: /etc/nginx/orthanc-formula.pem
                text: null
                certificate: null
                service: nginx
                command: /usr/sbin/nginx
                orthanc: /usr/sbin/Orthanc
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "nginx has no site of Orthanc"}
    try:
        proxy = __salt__["orthanc_pillar.resolve"](proxy)
        ret["changes"] = __salt__["orthanc_nginx.pending"](proxy)
        if __opts__["test"] and ret["changes"]:
            ret.update(result=None, comment="The site would be removed")
        elif ret["changes"]:
            __salt__["orthanc_nginx.publish"](proxy)
            ret["comment"] = "The site was removed"
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret
