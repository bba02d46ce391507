"""Calls Creto's services as a program that knows nothing but their .proto files.

    grpc_caller.py ADDRESS PROTO_FOLDER

Reads one call a line from standard input and writes one answer a line, as JSON:

    {"method": "Check", "token": "...", "request": {...}, "timeout": 5, "proof": "..."}
    {"service": "Timestamps", "method": "Order", "token": "...", "request": {...}}
    {"answer": {...}, "metadata": {...}}
    {"status": "NOT_FOUND", "message": "...", "details": {...}, "metadata": {...}}
"""

import json
import sys
import tempfile
from importlib import import_module, resources

import grpc
from google.protobuf import json_format
from grpc_status import rpc_status
from grpc_tools import protoc

FILES = {"Authz": "creto/authz/v1/authz", "Timestamps": "creto/consensus/v1/timestamps"}


def compiled(folder):
    """What the official generator makes of the .proto files: messages and stubs by service."""
    out = tempfile.mkdtemp()
    known = str(resources.files("grpc_tools").joinpath("_proto"))
    words = ["protoc", f"-I{folder}", f"-I{known}", f"--python_out={out}",
             f"--grpc_python_out={out}", *(f"{file}.proto" for file in FILES.values())]
    if protoc.main(words) != 0:
        sys.exit("protoc refused the .proto files")
    sys.path.insert(0, out)
    modules = {name: file.replace("/", ".") + "_pb2" for name, file in FILES.items()}
    return {name: (import_module(module), import_module(module + "_grpc"))
            for name, module in modules.items()}


def details(error):
    """The google.rpc details of a status, by the name of their type."""
    status = rpc_status.from_call(error)
    if status is None:
        return {}
    # Registers the types of the details.
    import_module("google.rpc.error_details_pb2")
    found = (json_format.MessageToDict(any_) for any_ in status.details)
    return {one.pop("@type").rsplit(".", 1)[1]: one for one in found}


def text(metadata):
    return {key: value for key, value in metadata or () if isinstance(value, str)}


def main():
    address, folder = sys.argv[1:]
    services = compiled(folder)
    with grpc.insecure_channel(address) as channel:
        stubs = {name: getattr(stub, f"{name}Stub")(channel)
                 for name, (_, stub) in services.items()}
        for line in sys.stdin:
            call = json.loads(line)
            called = call.get("service", "Authz")
            messages, stub = services[called][0], stubs[called]
            service = messages.DESCRIPTOR.services_by_name[called]
            name = service.methods_by_name[call["method"]].input_type.name
            request = json_format.ParseDict(call["request"], getattr(messages, name)())
            token = call.get("token")
            metadata = (("authorization", f"Bearer {token}"),) if token else ()
            if "proof" in call:
                metadata = (("authorization", f"DPoP {token}"), ("dpop", call["proof"]))
            try:
                answer, rpc = getattr(stub, call["method"]).with_call(
                    request, timeout=call.get("timeout", 30), metadata=metadata)
                said = {
                    "answer": json_format.MessageToDict(
                        answer, preserving_proto_field_name=True),
                    "metadata": text(rpc.initial_metadata()),
                }
            except grpc.RpcError as error:
                said = {
                    "status": error.code().name,
                    "message": error.details(),
                    "details": details(error),
                    "metadata": text(error.initial_metadata()) | text(error.trailing_metadata()),
                }
            print(json.dumps(said), flush=True)


main()
